"""Video: phrases and prompted objects in, masklets with lasting ids out, frame by frame."""

"""The tracker: sessions that follow things through the frames of a video, on Ray Serve."""

"""Sources of scenes for training: the renderer, or pictures that people annotated."""

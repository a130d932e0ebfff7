"""Images: structure from the header, geometry of the resize modes, pixels through Pillow."""

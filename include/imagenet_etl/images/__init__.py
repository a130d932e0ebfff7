"""Images: structure from the headers, resize modes as arithmetic, pixels through fast codecs."""

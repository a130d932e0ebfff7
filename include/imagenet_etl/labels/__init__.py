"""Which class each image is of, from the files that the publishers ship beside the images."""

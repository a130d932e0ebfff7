"""Archives from the publisher's door, over HTTP with resume, or from a path on this machine."""

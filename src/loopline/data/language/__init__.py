"""What declarations are written in: patterns, relations and units, each with one meaning in batch and per request."""

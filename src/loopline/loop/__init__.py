"""The control flow: the only arrow that goes back."""

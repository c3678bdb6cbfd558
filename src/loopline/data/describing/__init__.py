"""What is told of a table: its card, its page, its Croissant document, a first contract."""

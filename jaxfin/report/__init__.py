"""Tables, figures, files and progress."""

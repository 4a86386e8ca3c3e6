"""The shipped part: runs on an engine's node with nothing but Python >= 3.6. Imports nothing of taskrun's."""

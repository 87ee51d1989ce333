"""A small transformer that learns to write Python, from source code that each node alone has."""

"""The keys of the run configuration, declared by subject: a key is one entry in one of these files."""

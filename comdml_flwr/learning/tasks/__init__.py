"""What can be learned besides one label for each sample; a task of one's own is made of functions."""

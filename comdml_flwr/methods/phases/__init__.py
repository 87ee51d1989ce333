"""The phases that methods are made of."""

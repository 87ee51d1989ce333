"""Methods compared on the same data, seeds, devices and clock; and the report of it."""

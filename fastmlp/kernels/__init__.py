"""The compiled part: flat arrays and numbers in, flat arrays out; nothing here knows a Python object of the library."""

"""What is measured: a file for each kind. A section is a list of units, each of which is measured alone and kept in the JSON."""

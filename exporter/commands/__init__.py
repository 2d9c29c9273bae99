"""The commands of the program, one module or package each. They never import each other."""

"""What streams say of themselves in their headers, read bit by bit: the order of showing, and references."""

"""What two or more of the programs need; knows none of them."""

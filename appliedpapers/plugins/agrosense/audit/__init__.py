"""What is wrong with tables and photos before anybody learns from them."""

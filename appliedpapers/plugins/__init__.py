"""The built-in plugins; each is found by entry point, like a third party's."""

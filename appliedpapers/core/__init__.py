"""The contracts that every plugin keeps and every pipeline relies on."""

"""What can be foreseen from the first percept alone: the world as it is pictured, plans rolled forward in it, checks."""

"""The agent: modes of acting and the episode runner. It sees percepts and missions only."""

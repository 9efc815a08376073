"""The rule-based back end: naive first plans, checkers as reviewers, repairs by the planner."""

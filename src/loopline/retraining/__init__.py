"""When to act, wait or ask: signals, triggers, budgets and the pure `decide`."""

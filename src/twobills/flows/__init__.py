"""STORIES: what a command does from beginning to end, composing the rooms. A flow prints nothing: a listener does."""

"""Where facts go: sinks for what the other layers tell."""

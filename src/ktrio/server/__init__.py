"""Accept, admit, supervise, drain: connections as work items; knows no protocol by name."""

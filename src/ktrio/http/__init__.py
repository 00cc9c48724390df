"""HTTP as pure functions: values in, values out; no await of ours, no clock, no socket, no logging."""

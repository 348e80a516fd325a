"""Every option of an audit, and the defaults that a project sets."""

"""The components that ship with dheads. The host reaches them through entry points only, as it does any plugin."""

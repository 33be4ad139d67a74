"""x."""
__all__ = ["add_backup_commands"]
def add_backup_commands(commands):
    """x."""

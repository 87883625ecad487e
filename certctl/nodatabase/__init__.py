"""What stands where no database is named: the code is checked as ever, and nothing connects."""

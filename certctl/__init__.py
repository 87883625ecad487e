"""The Django project that runs the notifications app on its own."""

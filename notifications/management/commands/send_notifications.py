from notifications.management.sweeping import SweepCommand
from notifications.models import SweepKind


class Command(SweepCommand):
    help = "Send the pending notifications."
    kind = SweepKind.PENDING

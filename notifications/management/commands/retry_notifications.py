from notifications.management.sweeping import SweepCommand
from notifications.models import SweepKind


class Command(SweepCommand):
    help = "Send the failed notifications that are due again."
    kind = SweepKind.RETRY

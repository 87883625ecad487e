from tests.fixtures import configure, mail_receiver, receiver, script, webhook

__all__ = ["configure", "mail_receiver", "receiver", "script", "webhook"]

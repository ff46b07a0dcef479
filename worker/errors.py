"""Everything the worker raises on purpose.

::

    TidecastError              anything below; the command line prints it as one line
    |-- UserError              the user can mend it: exit code 2
    |   |-- SettingsError      a setting, a file or an argument is wrong
    |   |-- ModelError         a model file cannot be served, or two contend for one series
    |   `-- ServerError        no usable server after the retries: absent, refusing, wrong password
    |-- CheckpointError        saved windows cannot be used; they are made from the stream instead
    |-- PartitionError         one partition cannot go on: it is tried again, the others go on
    |   |-- PositionError      the stored offset is not the one the worker stood at
    |   |-- LeaseError         the partition is another worker's now
    |   `-- WrongKeyError      one of its keys holds what does not belong there
    `-- LostServerError        the server went away or failed; what became of the last call is open

A ServerError about a key of one partition is that partition's, too. Of a key that all share it ends
the worker, unless something of another type lies there, which is waited for as for a lost server.
After a LostServerError all partitions are taken from the server again.

Errors of the drivers (redis, onnxruntime, operating system) become these where they arise.
"""


class TidecastError(Exception):
    """The root of the tree."""

    exit_code = 1


class UserError(TidecastError):
    """Something the user can mend; the message says what, the value and what to do."""

    exit_code = 2


class SettingsError(UserError):
    """A setting, an argument or a file named by one is wrong."""


class ModelError(UserError):
    """A model file cannot be served."""


class ServerError(UserError):
    """The Redis server cannot be reached or does not let us in."""


class CheckpointError(TidecastError):
    """Saved windows cannot be used; the message says why."""


class PartitionError(TidecastError):
    """One partition cannot go on as it is; the others can."""


class PositionError(PartitionError):
    """The offset on the server is not the one this worker stood at."""


class LeaseError(PartitionError):
    """A partition's lease ran out or is held by another worker."""


class WrongKeyError(PartitionError):
    """A key of a partition holds what does not belong there; the message says what to do."""


class LostServerError(TidecastError):
    """The server went away or failed; what became of the last call is unknown."""

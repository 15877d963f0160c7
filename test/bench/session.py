"""Sessions of libpq, for queueing.py: no more between a query and the server
than there has to be."""

import ctypes
import ctypes.util
import time

from tables import Failed


class Session:
    """A connection to a database."""

    libpq = ctypes.CDLL(ctypes.util.find_library("pq"))
    libpq.PQconnectdb.restype = ctypes.c_void_p
    libpq.PQexec.restype = ctypes.c_void_p
    libpq.PQprepare.restype = ctypes.c_void_p
    libpq.PQexecPrepared.restype = ctypes.c_void_p
    libpq.PQgetvalue.restype = ctypes.c_char_p
    libpq.PQresultErrorMessage.restype = ctypes.c_char_p
    libpq.PQresultStatus.argtypes = [ctypes.c_void_p]
    libpq.PQclear.argtypes = [ctypes.c_void_p]
    TUPLES = 2                  # PGRES_TUPLES_OK

    def __init__(self, sockets, database):
        self.connection = ctypes.c_void_p(self.libpq.PQconnectdb(
            f"host={sockets} dbname={database}".encode()))
        self.parameter = (ctypes.c_char_p * 1)()

    def close(self):
        """Disconnect."""
        self.libpq.PQfinish(self.connection)

    def query(self, sql):
        """Run a statement; the first column of its rows."""
        return self.values(self.libpq.PQexec(self.connection, sql.encode()))

    def prepare(self, name, sql):
        """Have a statement parsed once, as many drivers do by themselves."""
        self.values(self.libpq.PQprepare(
            self.connection, name.encode(), sql.encode(), 0, None))

    def execute(self, name, value):
        """Run one that is prepared, with a value for its parameter; nobody
        asks for its rows."""
        libpq = self.libpq
        self.parameter[0] = value
        result = libpq.PQexecPrepared(self.connection, name, 1, self.parameter,
                                      None, None, 0)
        if libpq.PQresultStatus(result) != self.TUPLES:
            self.values(result)
        libpq.PQclear(result)

    def values(self, result):
        """The first column of a result, which is done with then."""
        result = ctypes.c_void_p(result)
        error = self.libpq.PQresultErrorMessage(result).decode()
        values = [self.libpq.PQgetvalue(result, row, 0).decode()
                  for row in range(self.libpq.PQntuples(result))]
        self.libpq.PQclear(result)
        if error:
            raise Failed(error)
        return values

    def number(self, sql):
        """The number that a query returns."""
        return float(self.query(sql)[0])

    def wait(self, sql, pause=0.01):
        """Wait until a query returns true."""
        while self.query(sql) != ["t"]:
            time.sleep(pause)

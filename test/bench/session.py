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
    libpq.PQgetvalue.restype = ctypes.c_char_p
    libpq.PQresultErrorMessage.restype = ctypes.c_char_p

    def __init__(self, sockets, database):
        self.connection = ctypes.c_void_p(self.libpq.PQconnectdb(
            f"host={sockets} dbname={database}".encode()))

    def close(self):
        """Disconnect."""
        self.libpq.PQfinish(self.connection)

    def query(self, sql):
        """Run a statement; the first column of its rows."""
        result = ctypes.c_void_p(
            self.libpq.PQexec(self.connection, sql.encode()))
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

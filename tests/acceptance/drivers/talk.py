"""PyMySQL, mysqlclient and mysql-connector-python, pure and over MySQL's own library; plain, compressed and by TLS as far as each can.

Arguments: a port, and "plain" where the server has no TLS.
"""

import ssl
import sys

import mysql.connector
import MySQLdb
import pymysql

PORT, PLAIN = int(sys.argv[1]), "plain" in sys.argv[2:]
WHERE = {"host": "127.0.0.1", "port": PORT, "user": "driver", "password": "driver", "database": "sbtest"}
BLOB = bytes(range(256)) * 4096


def talk(name, connection, **options):
    cursor = connection.cursor(**options)
    cursor.execute("CREATE TEMPORARY TABLE lob (id INT AUTO_INCREMENT PRIMARY KEY, b LONGBLOB) ENGINE = InnoDB")
    cursor.execute("INSERT INTO lob (b) VALUES (%s)", (BLOB,))
    key = cursor.lastrowid
    cursor.execute("SELECT b FROM lob WHERE id = %s", (key,))
    same = bytes(cursor.fetchone()[0]) == BLOB
    connection.rollback()
    cursor.execute("SELECT COUNT(*) FROM lob")
    count, error = cursor.fetchone()[0], 0
    try:
        cursor.execute("SELEC 1")
    except (pymysql.Error, MySQLdb.Error, mysql.connector.Error) as refused:
        error = refused.args[0]
    cursor.close()
    print(name, same, count, error, again(connection))
    connection.close()


def again(connection):
    """Who it is after a change of the user, or after the driver has connected anew."""
    if isinstance(connection, pymysql.connections.Connection):
        connection.ping(reconnect=True)
    elif isinstance(connection, MySQLdb.connections.Connection):
        try:
            connection.change_user("sbtest", "sbtest", "sbtest")
        except MySQLdb.Error as refused:
            return refused.args[0]
    elif not connection._compress:
        connection.cmd_change_user("sbtest", "sbtest", "sbtest")
    else:
        connection.reconnect()
    cursor = connection.cursor()
    cursor.execute("SELECT CURRENT_USER()")
    return cursor.fetchone()[0]


open_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
open_context.check_hostname, open_context.verify_mode = False, ssl.CERT_NONE
for tls in [False] if PLAIN else [False, True]:
    talk(f"PyMySQL tls={tls}", pymysql.connect(**WHERE, ssl=open_context if tls else None, ssl_disabled=not tls))
    for compress in [False, True]:
        options = {"ssl_mode": "REQUIRED" if tls else "DISABLED", "compress": compress}
        talk(f"mysqlclient {options}", MySQLdb.connect(**WHERE, **options))
        # MySQL's own library in it wants OpenSSL 3.2, which not every Debian has.
        for pure in [True, False] if mysql.connector.HAVE_CEXT else [True]:
            for prepared in [False, True]:
                options = {"use_pure": pure, "ssl_disabled": not tls, "compress": compress}
                connection = mysql.connector.connect(**WHERE, **options)
                talk(f"mysql-connector-python {options} prepared={prepared}", connection, prepared=prepared)

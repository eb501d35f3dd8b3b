"""PyMySQL and mysql-connector-python (pure), plain and by TLS. Argument: a port."""

import ssl
import sys

import mysql.connector
import pymysql

PORT = int(sys.argv[1])
WHERE = {"host": "127.0.0.1", "port": PORT, "user": "driver", "password": "driver", "database": "sbtest"}
BLOB = bytes(range(256)) * 4096


def talk(name, connection, options):
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
    except (pymysql.Error, mysql.connector.Error) as refused:
        error = refused.args[0]
    connection.ping(reconnect=True)
    print(name, same, count, error)
    connection.close()


open_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
open_context.check_hostname, open_context.verify_mode = False, ssl.CERT_NONE
talk("PyMySQL", pymysql.connect(**WHERE), {})
talk("PyMySQL TLS", pymysql.connect(**WHERE, ssl=open_context), {})
for tls in [True, False]:
    for prepared in [False, True]:
        connection = mysql.connector.connect(**WHERE, use_pure=True, ssl_disabled=tls)
        talk(f"mysql-connector-python {tls} {prepared}", connection, {"prepared": prepared})

"""aiomysql, plain and by TLS, by a pool of connections. Arguments: a port, and "plain" where the server has no TLS."""

import asyncio
import ssl
import sys

import aiomysql

WHERE = {"host": "127.0.0.1", "port": int(sys.argv[1]), "user": "driver", "password": "driver", "db": "sbtest"}
BLOB = bytes(range(256)) * 4096


async def talk(connection):
    cursor = await connection.cursor()
    await cursor.execute("CREATE TEMPORARY TABLE lob (id INT AUTO_INCREMENT PRIMARY KEY, b LONGBLOB) ENGINE = InnoDB")
    await connection.begin()
    await cursor.execute("INSERT INTO lob (b) VALUES (%s)", (BLOB,))
    await cursor.execute("SELECT b FROM lob WHERE id = %s", (cursor.lastrowid,))
    same = (await cursor.fetchone())[0] == BLOB
    await connection.rollback()
    await cursor.execute("SELECT COUNT(*) FROM lob")
    count, error = (await cursor.fetchone())[0], 0
    try:
        await cursor.execute("SELEC 1")
    except aiomysql.MySQLError as refused:
        error = refused.args[0]
    await connection.ping(reconnect=True)
    return same, count, error


async def pooled(name, **options):
    pool = await aiomysql.create_pool(**WHERE, **options, minsize=1, maxsize=4)

    async def one():
        async with pool.acquire() as connection:
            return await talk(connection)

    print(name, await asyncio.gather(one(), one(), one(), one()))
    pool.close()
    await pool.wait_closed()


async def main():
    await pooled("aiomysql")
    if "plain" not in sys.argv[2:]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        await pooled("aiomysql TLS", ssl=context)


asyncio.run(main())

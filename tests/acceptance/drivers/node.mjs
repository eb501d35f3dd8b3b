// mysql2 and mariadb, plain, compressed, by TLS and both. Arguments: a driver, a port, and "plain" where the server has no TLS.
import crypto from "crypto";

const [driver, port, plain] = process.argv.slice(2);
// Without TLS a password of caching_sha2_password may go encrypted by the server's key.
const keys = driver === "mariadb" ? { allowPublicKeyRetrieval: true } : {};
const where = { host: "127.0.0.1", port: +port, user: "driver", password: "driver", database: "sbtest", ...keys };
const tls = { rejectUnauthorized: false };
const blob = crypto.createHash("sha512").update("blob").digest().toString("hex").repeat(8192);

async function rows(connection, sql, values) {
    const answer = values ? await connection.execute(sql, values) : await connection.query(sql);
    return driver === "mysql2" ? answer[0] : answer;
}

async function talk(options) {
    const { createConnection } = await import(driver === "mysql2" ? "mysql2/promise" : "mariadb");
    const connection = await createConnection({ ...where, ...options });
    await rows(connection, "CREATE TEMPORARY TABLE lob (id INT AUTO_INCREMENT PRIMARY KEY, b LONGTEXT) ENGINE = InnoDB");
    await connection.beginTransaction();
    const { insertId } = await rows(connection, "INSERT INTO lob (b) VALUES (?)", [blob]);
    const [{ b }] = await rows(connection, "SELECT b FROM lob WHERE id = ?", [insertId]);
    await connection.rollback();
    const [{ n }] = await rows(connection, "SELECT COUNT(*) AS n FROM lob");
    const error = await rows(connection, "SELEC 1").catch((error) => error.errno);
    const [{ x }] = await rows(connection, "SELECT REPEAT('x', 5000000) AS x");
    // The driver mariadb does not do it on MySQL.
    const change = await connection.changeUser({ user: "sbtest", password: "sbtest" }).catch((error) => error.code);
    const [{ u }] = await rows(connection, "SELECT CURRENT_USER() AS u");
    await connection.end();
    console.log(driver, JSON.stringify(options), b === blob, +String(n), error, x.length, change, u);
}

const modes = [{}, { compress: true }, { ssl: tls }, { compress: true, ssl: tls }];
for (const options of modes.slice(0, plain ? 2 : 4)) {
    await talk(options);
}
process.exit(0);

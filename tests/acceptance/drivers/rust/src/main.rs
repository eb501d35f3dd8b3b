//! mysql_async and sqlx, plain, compressed, by TLS and both, as far as each can. Arguments: a port, and "plain" where the server has no
//! TLS.

use std::error::Error;

use mysql_async::prelude::Queryable;
use mysql_async::{ChangeUserOpts, Conn, OptsBuilder, SslOpts, TxOpts};
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlSslMode};
use sqlx::{ConnectOptions, Connection, Executor, Row};

type Outcome = Result<(), Box<dyn Error>>;

const LOB: &str =
    "CREATE TEMPORARY TABLE lob (id INT AUTO_INCREMENT PRIMARY KEY, b LONGBLOB) ENGINE = InnoDB";

fn blob() -> Vec<u8> {
    (0..1u32 << 20).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

async fn mysql_async(port: u16, tls: bool, compressed: bool) -> Outcome {
    let open =
        SslOpts::default().with_danger_accept_invalid_certs(true).with_danger_skip_domain_validation(true);
    let options = OptsBuilder::default()
        .ip_or_hostname("127.0.0.1")
        .tcp_port(port)
        .prefer_socket(false)
        .user(Some("driver"))
        .pass(Some("driver"))
        .db_name(Some("sbtest"))
        .ssl_opts(tls.then_some(open))
        .compression(compressed.then(mysql_async::Compression::fast));
    let mut connection = Conn::new(options).await?;
    connection.query_drop(LOB).await?;
    let mut transaction = connection.start_transaction(TxOpts::default()).await?;
    transaction.exec_drop("INSERT INTO lob (b) VALUES (?)", (blob(),)).await?;
    let key = transaction.last_insert_id();
    let back: Option<Vec<u8>> = transaction.exec_first("SELECT b FROM lob WHERE id = ?", (key,)).await?;
    transaction.rollback().await?;
    let count: Option<u32> = connection.query_first("SELECT COUNT(*) FROM lob").await?;
    let error = match connection.query_drop("SELEC 1").await {
        Err(mysql_async::Error::Server(refused)) => refused.code,
        other => return Err(format!("SELEC 1: {other:?}").into()),
    };
    let reset = connection.reset().await?;
    let gone = connection.query_drop("SELECT * FROM lob").await.is_err();
    let other = ChangeUserOpts::new()
        .with_user(Some("sbtest".into()))
        .with_pass(Some("sbtest".into()))
        .with_db_name(Some("sbtest".into()));
    connection.change_user(other).await?;
    let user: Option<String> = connection.query_first("SELECT CURRENT_USER()").await?;
    connection.disconnect().await?;
    let same = back == Some(blob());
    println!(
        "mysql_async tls={tls} compressed={compressed} {same} {count:?} {error} {reset} {gone} {user:?}"
    );
    Ok(())
}

async fn sqlx(port: u16, tls: bool) -> Outcome {
    let mode = if tls { MySqlSslMode::Required } else { MySqlSslMode::Disabled };
    let options = MySqlConnectOptions::new()
        .host("127.0.0.1")
        .port(port)
        .username("driver")
        .password("driver")
        .database("sbtest")
        .ssl_mode(mode);
    let mut connection: MySqlConnection = options.clone().connect().await?;
    connection.execute(LOB).await?;
    let mut transaction = connection.begin().await?;
    let insert = sqlx::query("INSERT INTO lob (b) VALUES (?)").bind(blob());
    let key = insert.execute(&mut *transaction).await?.last_insert_id();
    let select = sqlx::query("SELECT b FROM lob WHERE id = ?").bind(key);
    let back: Vec<u8> = select.fetch_one(&mut *transaction).await?.try_get(0)?;
    transaction.rollback().await?;
    let count: i64 = connection.fetch_one("SELECT COUNT(*) FROM lob").await?.try_get(0)?;
    let refused = connection.execute("SELEC 1").await.err().ok_or("SELEC 1 was taken")?;
    let error = refused.as_database_error().and_then(|error| error.code().map(|code| code.into_owned()));
    connection.ping().await?;
    connection.close().await?;
    let mut connection = options.username("sbtest").password("sbtest").connect().await?;
    let user: String = connection.fetch_one("SELECT CURRENT_USER()").await?.try_get(0)?;
    connection.close().await?;
    println!("sqlx tls={tls} {} {count} {error:?} {user}", back == blob());
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome {
    let port = std::env::args().nth(1).ok_or("argument: a port")?.parse()?;
    let modes: &[bool] =
        if std::env::args().nth(2).is_some_and(|word| word == "plain") { &[false] } else { &[false, true] };
    for &tls in modes {
        for compressed in [false, true] {
            mysql_async(port, tls, compressed).await?;
        }
        sqlx(port, tls).await?;
    }
    Ok(())
}

# mysql2 (libmariadb), plain, compressed, by TLS and both. Arguments: a port, and "plain" where the server has no TLS.
require "mysql2"

BLOB = ((0..255).to_a * 4096).pack("C*")

def talk(options)
  db = Mysql2::Client.new(host: "127.0.0.1", port: ARGV[0].to_i, username: "driver", password: "driver",
                          database: "sbtest", **options)
  db.query("CREATE TEMPORARY TABLE lob (id INT AUTO_INCREMENT PRIMARY KEY, b LONGBLOB) ENGINE = InnoDB")
  db.query("BEGIN")
  insert = db.prepare("INSERT INTO lob (b) VALUES (?)")
  insert.execute(BLOB)
  same = db.prepare("SELECT b FROM lob WHERE id = ?").execute(insert.last_id).first["b"] == BLOB
  db.query("ROLLBACK")
  count = db.query("SELECT COUNT(*) AS n FROM lob").first["n"]
  many = db.query("SELECT 1 AS n UNION SELECT 2 UNION SELECT 3", stream: true, cache_rows: false).map { |row| row["n"] }
  error = begin
    db.query("SELEC 1")
  rescue Mysql2::Error => refused
    refused.error_number
  end
  puts "mysql2 #{options} #{same} #{count} #{many} #{error} #{db.ping} #{db.ssl_cipher ? 'encrypted' : 'open'}"
  db.close
end

# Naming ciphers is how this version of it asks libmariadb for TLS.
(ARGV[1] == "plain" ? [{}] : [{}, { sslcipher: "HIGH", sslverify: false }]).each do |tls|
  [0, Mysql2::Client::COMPRESS].each { |flags| talk(flags: flags, **tls) }
end

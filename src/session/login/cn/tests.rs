//! The login at a CN, by captures of real ones.

use super::super::Proof;
use super::super::client::tests::face;
use super::*;
use crate::session::face::Face;
use crate::session::user::Hashes;
use crate::wire::auth::sha2_crypt::tests::secret;
use crate::wire::auth::{caching_sha2_scramble, native_hash, native_key, native_scramble};
use crate::wire::greeting::tests::{MARIADB_10_11, MYSQL_8};
use crate::wire::login::tests::{LIBMARIADB, TRACKING};
use proptest::prelude::*;

const ED25519_SWITCH: &[u8] =
    b"\xfeclient_ed25519\0s9\xb4vWPz_\xa5\xf2MIn\x07Yx6\x06\xfe\xc3\x98\x1e@\xae\xe4\
    \xe8\xeb\x05\x8dMv^";
const SHA2_SWITCH: &[u8] = b"\xfecaching_sha2_password\0abcdefghijklmnopqrst\0";
const NATIVE_SWITCH: &[u8] = b"\xfemysql_native_password\0abcdefghijklmnopqrst\0";
const SALT_THERE: &[u8; SALT] = b"abcdefghijklmnopqrst";
const LOGGED_IN: &[u8] = b"\0\0\0\x02@\0\0\0\x05\x01\x03\x02d1";

fn client() -> ClientLogin {
    ClientLogin::read(TRACKING, &face()).unwrap()
}

fn proof(password: &str, known: bool) -> Credential {
    let native_key = (!password.is_empty()).then(|| native_key(password).into());
    Credential::Proof(Proof { native_key, password: known.then(|| password.into()) })
}

fn begin(credential: Credential) -> CnAuth {
    CnLogin::new(&client(), b"napw", credential).greeting(MARIADB_10_11).unwrap().1
}

fn to_client(packet: &[u8], next: Speaker) -> Result<CnStep, CnLoginError> {
    Ok(CnStep::ToClient { packet: packet.to_vec(), next })
}

#[test]
fn the_response_is_the_clients_but_for_name_and_proof() {
    let login = client();
    let (payload, auth) = CnLogin::new(&login, b"plain", Credential::Relay).greeting(MARIADB_10_11).unwrap();
    let sent = HandshakeResponse::read(&payload).unwrap();
    let own = HandshakeResponse::read(TRACKING).unwrap();
    assert_eq!(sent.user, b"plain");
    assert_eq!((sent.plugin, sent.auth), (Some(&b"corelane_relay"[..]), &b"x"[..]));
    assert_eq!((sent.charset, sent.max_packet), (own.charset, own.max_packet));
    assert_eq!((sent.database, sent.attributes), (own.database, own.attributes));
    assert_eq!(sent.capabilities, own.capabilities);
    assert_eq!((auth.connection_id, auth.capabilities), (27, own.capabilities));
}

#[test]
fn a_mariadb_client_keeps_its_extended_flags() {
    let login = ClientLogin::read(LIBMARIADB, &face()).unwrap();
    let (payload, _) = CnLogin::new(&login, b"ed", Credential::Relay).greeting(MARIADB_10_11).unwrap();
    assert_eq!(HandshakeResponse::read(&payload).unwrap().capabilities.extended(), 0x1d);
}

#[test]
fn a_broken_promise_is_named() {
    let login = ClientLogin::read(LIBMARIADB, &face()).unwrap();
    let error = CnLogin::new(&login, b"ed", Credential::Relay).greeting(MYSQL_8).unwrap_err();
    assert_eq!(error, CnLoginError::Lacks { capability: "MARIADB_STMT_BULK_OPERATIONS" });
    let login = ClientLogin::read(LIBMARIADB, &Face::default()).unwrap();
    assert!(CnLogin::new(&login, b"ed", Credential::Relay).greeting(MYSQL_8).is_ok());
}

#[test]
fn an_unwilling_cn_is_told_apart() {
    let error = CnLogin::new(&client(), b"u", Credential::Relay)
        .greeting(b"\xff\x10\x04Too many connections")
        .unwrap_err();
    let message = "Too many connections".to_owned();
    assert_eq!(error, CnLoginError::Unwilling { code: 1040, sqlstate: None, message });
}

#[test]
fn relay_passes_one_round_of_any_plugin() {
    for switch in [ED25519_SWITCH, NATIVE_SWITCH, b"\xfemysql_clear_password\0", b"\xfe"] {
        let mut auth = begin(Credential::Relay);
        assert_eq!(auth.from_client(b"early"), Err(CnLoginError::OutOfTurn));
        assert_eq!(auth.from_cn(switch), to_client(switch, Speaker::Client));
        assert_eq!(auth.from_client(b"answer"), Ok(CnStep::ToCn(b"answer".to_vec())));
        let seated = CnStep::Seated { ok: LOGGED_IN.to_vec(), status: 0x4002 };
        assert_eq!(auth.from_cn(LOGGED_IN), Ok(seated));
    }
}

#[test]
fn relay_passes_caching_sha2_fast_and_full() {
    let mut auth = begin(Credential::Relay);
    assert_eq!(auth.from_cn(SHA2_SWITCH), to_client(SHA2_SWITCH, Speaker::Client));
    assert_eq!(auth.from_client(&[7; 32]), Ok(CnStep::ToCn(vec![7; 32])));
    assert_eq!(auth.from_cn(b"\x01\x03"), to_client(b"\x01\x03", Speaker::Cn));
    assert!(matches!(auth.from_cn(LOGGED_IN), Ok(CnStep::Seated { .. })));

    let mut auth = begin(Credential::Relay);
    let key = b"\x01-----BEGIN PUBLIC KEY-----";
    for (asked, answered) in [(SHA2_SWITCH, &[7; 32][..]), (b"\x01\x04", b"\x02"), (key, &[9; 256])] {
        assert_eq!(auth.from_cn(asked), to_client(asked, Speaker::Client));
        assert_eq!(auth.from_client(answered), Ok(CnStep::ToCn(answered.to_vec())));
    }
    assert!(matches!(auth.from_cn(LOGGED_IN), Ok(CnStep::Seated { .. })));
}

#[test]
fn relay_passes_questions_of_pam_up_to_a_bound() {
    let mut auth = begin(Credential::Relay);
    let (switch, question) = (b"\xfedialog\0\x04Password: ", b"\x04Password: ");
    assert_eq!(auth.from_cn(switch), to_client(switch, Speaker::Client));
    assert!(auth.from_client(b"secret\0").is_ok());
    for _ in 1..AUTH_ROUNDS_MAX {
        assert_eq!(auth.from_cn(question), to_client(question, Speaker::Client));
        assert!(auth.from_client(b"secret\0").is_ok());
    }
    assert_eq!(auth.from_cn(question), Err(CnLoginError::TooManyRounds));
}

/// Each is what a client with TLS may answer by its password as it is, where somebody may read along behind corelane.
#[test]
fn a_cn_that_can_be_overheard_gets_no_password_by_a_way_around() {
    let private = ClientChannel { has_tls: true, ..ClientChannel::default() };
    let begin = || {
        let login = client();
        let cn = CnLogin::new(&login, b"napw", Credential::Relay).for_client(private.clone());
        cn.greeting(MARIADB_10_11).unwrap().1
    };
    for unasked in [&b"\x01\x04"[..], b"\x04", b"\x02Password: ", b""] {
        assert_eq!(begin().from_cn(unasked), Err(CnLoginError::NotAsked), "to the plugin that it has named");
    }
    for full in [&b"\x01\x04"[..], b"\x04"] {
        let mut auth = begin();
        assert_eq!(auth.from_cn(SHA2_SWITCH), to_client(SHA2_SWITCH, Speaker::Client));
        assert_eq!(auth.from_client(&[7; 32]), Ok(CnStep::ToCn(vec![7; 32])));
        assert_eq!(auth.from_cn(full), Err(CnLoginError::NoKey), "with the byte before it or without");
    }
    let short = begin().from_cn(b"\xfecaching_sha2_password\0short\0");
    assert!(matches!(short, Err(CnLoginError::Wire(_))), "{short:?}");
}

#[test]
fn what_is_said_in_private_is_not_passed_on_where_it_is_heard() {
    let switched = |channel: ClientChannel, plugin: &str| {
        let login = client();
        let cn = CnLogin::new(&login, b"napw", Credential::Relay).for_client(channel);
        cn.greeting(MARIADB_10_11).unwrap().1.from_cn(&[b"\xfe", plugin.as_bytes(), b"\0"].concat())
    };
    let tls = ClientChannel { has_tls: true, ..ClientChannel::default() };
    let local = ClientChannel { local: true, ..ClientChannel::default() };
    for plugin in IN_CLEAR {
        for private in [&tls, &local] {
            assert_eq!(switched(private.clone(), plugin), Err(CnLoginError::Unprotected), "{plugin}");
        }
        assert!(switched(ClientChannel::default(), plugin).is_ok(), "{plugin}: it could be heard before");
    }
}

#[test]
fn an_err_is_passed_as_it_is() {
    let err = b"\xff\x19\x04#42000Unknown database 'nodb'";
    let refused = CnStep::Refused { err: err.to_vec(), code: 1049 };
    assert_eq!(begin(Credential::Relay).from_cn(err), Ok(refused));
}

#[test]
fn a_proof_answers_the_salt_of_the_greeting_and_of_a_switch() {
    let key = native_key("secret");
    let login = client();
    let (payload, mut auth) =
        CnLogin::new(&login, b"napw", proof("secret", false)).greeting(MARIADB_10_11).unwrap();
    let salt = Greeting::read(MARIADB_10_11).unwrap().salt;
    let sent = HandshakeResponse::read(&payload).unwrap();
    assert_eq!((sent.plugin, sent.auth), (Some(NATIVE.as_bytes()), &native_scramble(&key, &salt)[..]));
    let answer = native_scramble(&key, SALT_THERE).to_vec();
    assert_eq!(auth.from_cn(NATIVE_SWITCH), Ok(CnStep::ToCn(answer)));
    assert!(matches!(auth.from_cn(LOGGED_IN), Ok(CnStep::Seated { .. })));
}

#[test]
fn a_proof_serves_caching_sha2_where_the_password_is_known() {
    let mut auth = begin(proof("secret", true));
    let answer = caching_sha2_scramble("secret", SALT_THERE).to_vec();
    assert_eq!(auth.from_cn(SHA2_SWITCH), Ok(CnStep::ToCn(answer)));
    assert_eq!(auth.from_cn(b"\x01\x03"), Ok(CnStep::Wait));
    assert_eq!(auth.from_cn(b"\x01\x04"), Err(CnLoginError::NoKey));
    let plugin = CACHING_SHA2.to_owned();
    assert_eq!(begin(proof("secret", false)).from_cn(SHA2_SWITCH), Err(CnLoginError::CannotProve { plugin }));
    assert_eq!(begin(proof("", false)).from_cn(SHA2_SWITCH), Ok(CnStep::ToCn(vec![0])));
    assert_eq!(begin(proof("", false)).from_cn(NATIVE_SWITCH), Ok(CnStep::ToCn(vec![])));
    let error = begin(proof("secret", false)).from_cn(ED25519_SWITCH).unwrap_err();
    assert!(error.to_string().contains("client_ed25519"));
}

/// What a relayed login in these steps leaves behind: what the CN says, and what the client answers.
fn left_by(steps: &[(&[u8], &[u8])]) -> Standing {
    let mut auth = begin(Credential::Relay);
    for (said, answer) in steps {
        assert!(matches!(auth.from_cn(said), Ok(CnStep::ToClient { next: Speaker::Client, .. })));
        assert_eq!(auth.from_client(answer), Ok(CnStep::ToCn(answer.to_vec())));
    }
    assert!(matches!(auth.from_cn(LOGGED_IN), Ok(CnStep::Seated { .. })));
    auth.standing()
}

#[test]
fn a_relayed_login_leaves_a_witness_if_a_native_answer_was_the_last_word() {
    let (native, wrong) = (&native_scramble(&native_key("secret"), SALT_THERE)[..], &[7; 20][..]);
    let mut standing = left_by(&[(NATIVE_SWITCH, native)]);
    let hashes = Hashes { native: [native_hash(&native_key("secret"))].into(), ..Hashes::default() };
    let proof = standing.proof(Some(&hashes)).expect("the hash fits");
    assert_eq!(proof.native_key, Some(native_key("secret").into()));
    let witnessed = Standing::Witnessed(Witness::native(*SALT_THERE, wrong).unwrap());
    assert_eq!(left_by(&[(ED25519_SWITCH, &[9; 64]), (NATIVE_SWITCH, wrong)]), witnessed);
    let others: [&[(&[u8], &[u8])]; 6] = [
        &[],
        &[(NATIVE_SWITCH, b"")],
        &[(b"\xfemysql_native_password\0short\0", native)],
        &[(SHA2_SWITCH, &[7; 20])],
        &[(NATIVE_SWITCH, native), (ED25519_SWITCH, &[9; 64])],
        &[(NATIVE_SWITCH, native), (b"\x02second factor\0", b"123456")],
    ];
    for steps in others {
        assert_eq!(left_by(steps), Standing::Unknown, "{steps:?}");
    }
}

/// A login of a user of whom a table has this hash.
fn wanting(secrets: &Arc<[Arc<Sha2Secret>]>, private: bool) -> CnAuth {
    let (login, channel) = (client(), ClientChannel { has_tls: private, ..ClientChannel::default() });
    let cn = CnLogin::new(&login, b"napw", Credential::Relay).for_client(channel).known_by(secrets.clone());
    let mut auth = cn.secured(WantsTls::No, true).greeting(MARIADB_10_11).unwrap().1;
    let answer = caching_sha2_scramble("secret", SALT_THERE).to_vec();
    assert_eq!(auth.from_cn(SHA2_SWITCH), to_client(SHA2_SWITCH, Speaker::Client));
    assert_eq!(auth.from_client(&answer), Ok(CnStep::ToCn(answer)));
    auth
}

fn shown() -> Standing {
    Standing::Witnessed(Witness::Password("secret".into()))
}

#[test]
fn a_password_that_is_wanted_is_left_behind_by_the_full_path() {
    let secrets: Arc<[_]> = [Arc::new(Sha2Secret::new(secret()))].into();
    let mut auth = wanting(&secrets, true);
    assert_eq!(auth.from_cn(b"\x01\x04"), to_client(b"\x01\x04", Speaker::Client));
    assert_eq!(auth.from_client(b"secret\0"), Ok(CnStep::ToCn(b"secret\0".to_vec())));
    assert!(matches!(auth.from_cn(LOGGED_IN), Ok(CnStep::Seated { .. })));
    assert_eq!(auth.standing(), shown());
    let mut auth = wanting(&secrets, true);
    assert!(auth.from_cn(b"\x01\x04").is_ok() && auth.from_client(b"secret\0").is_ok());
    assert!(auth.from_cn(b"\x02second factor\0").is_ok() && auth.from_client(b"123456").is_ok());
    assert!(matches!(auth.from_cn(LOGGED_IN), Ok(CnStep::Seated { .. })));
    assert_eq!(auth.standing(), Standing::Unknown, "it was not enough");
}

#[test]
fn by_the_fast_path_it_is_asked_for_until_it_is_known() {
    let secrets: Arc<[_]> = [Arc::new(Sha2Secret::new(secret()))].into();
    let left = |private, answer: &[u8]| {
        let mut auth = wanting(&secrets, private);
        let step = auth.from_cn(b"\x01\x03");
        if step == to_client(b"\x01\x04", Speaker::Client) {
            assert_eq!(auth.from_client(answer), Ok(CnStep::Wait), "the CN hears nothing of it");
        } else {
            assert_eq!(step, to_client(b"\x01\x03", Speaker::Cn));
        }
        assert!(matches!(auth.from_cn(LOGGED_IN), Ok(CnStep::Seated { .. })));
        auth.standing()
    };
    let answered = Witness::sha2(*SALT_THERE, &caching_sha2_scramble("secret", SALT_THERE)).unwrap();
    let answered = Standing::Witnessed(answered);
    assert_eq!(left(true, b"secret\0"), shown());
    assert_eq!(left(true, b"wrong\0"), answered, "the CN has taken another one");
    assert_eq!(left(true, b""), answered);
    assert_eq!(left(false, b""), answered, "it is not asked");
    secrets[0].keep("secret".into());
    assert_eq!(left(true, b"not asked any more"), answered);
    let hashes = Hashes { sha2: secrets.clone(), ..Hashes::default() };
    let proof = Proof::of(&"secret".into());
    assert_eq!(left(true, b"").proof(Some(&hashes)), Some(&proof));
}

#[test]
fn a_proof_stays_behind() {
    let proof = proof("secret", true);
    let Credential::Proof(held) = proof.clone() else { panic!("no proof") };
    assert_eq!(begin(proof).standing(), Standing::Proven(held));
}

proptest! {
    #[test]
    fn noise_never_panics_and_never_goes_on_for_ever(
        packets in proptest::collection::vec((any::<bool>(), 0u8..6, any::<Vec<u8>>()), 80..100),
        relay: bool,
    ) {
        let mut auth = begin(if relay { Credential::Relay } else { proof("secret", true) });
        let mut passed = 0;
        for (client, kind, bytes) in packets {
            let heads = [&b"\0"[..], b"\x01", b"\xfe", b"\xff", SHA2_SWITCH, b""];
            let head = heads[usize::from(kind)];
            let packet = [head, &bytes].concat();
            let step = if client { auth.from_client(&packet) } else { auth.from_cn(&packet) };
            passed += u32::from(step.is_ok() && !client);
        }
        prop_assert!(passed <= AUTH_ROUNDS_MAX);
        let _ = CnLogin::new(&client(), b"u", Credential::Relay).greeting(b"");
    }
}

#[test]
fn a_leg_becomes_another_users_by_the_salt_that_its_cn_shows() {
    let (spoken, channel) = (begin(Credential::Relay).spoken(), Channel::default());
    let changing = |proof: Credential| {
        let Credential::Proof(proof) = proof else { panic!("a proof") };
        CnAuth::changing(proof, spoken, channel)
    };
    let mut auth = changing(proof("secret", false));
    let answer = native_scramble(&native_key("secret"), SALT_THERE).to_vec();
    assert_eq!(auth.from_cn(NATIVE_SWITCH), Ok(CnStep::ToCn(answer)));
    let step = auth.from_cn(LOGGED_IN);
    assert!(matches!(step, Ok(CnStep::Seated { .. })), "{step:?}");
    assert_eq!(auth.spoken(), spoken);
    let mut auth = changing(proof("secret", false));
    let plugin = "caching_sha2_password".to_owned();
    assert_eq!(auth.from_cn(SHA2_SWITCH), Err(CnLoginError::CannotProve { plugin }));
    let mut auth = changing(proof("secret", true));
    let answer = caching_sha2_scramble("secret", SALT_THERE).to_vec();
    assert_eq!(auth.from_cn(SHA2_SWITCH), Ok(CnStep::ToCn(answer)));
    assert_eq!(auth.from_cn(b"\x01\x03"), Ok(CnStep::Wait));
    assert_eq!(auth.from_cn(b"\x01\x04"), Err(CnLoginError::NoKey));
    let mut auth = changing(proof("", true));
    assert_eq!(auth.from_cn(NATIVE_SWITCH), Ok(CnStep::ToCn(Vec::new())));
}

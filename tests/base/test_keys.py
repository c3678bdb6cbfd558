from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from loopline.base.errors import Invalid, NotFound
from loopline.base.keys import SigningKey, fingerprint, key_path, verify


def test_what_a_key_signed_is_verified_by_its_public_half_alone():
    key = SigningKey.load("ada", create=True)
    signature = key.sign(b"evidence")
    assert verify(key.public, signature, b"evidence")
    assert not verify(key.public, signature, b"evidence!")
    assert not verify(SigningKey.load("bob", create=True).public, signature, b"evidence")
    assert key.fingerprint == fingerprint(key.public)


@pytest.mark.parametrize("junk", ["", "x", "AAAA", "ä", "=" * 44])
def test_malformed_keys_and_signatures_verify_nothing(junk):
    key = SigningKey.load("ada", create=True)
    assert not verify(junk, key.sign(b"m"), b"m")
    assert not verify(key.public, junk, b"m")


def test_a_key_is_made_once_and_only_when_asked():
    with pytest.raises(NotFound, match="ada"):
        SigningKey.load("ada", create=False)
    made = SigningKey.load("ada", create=True)
    assert SigningKey.load("ada", create=False).public == made.public


def test_threads_that_make_one_key_at_once_share_it():
    with ThreadPoolExecutor(6) as pool:
        made = {key.public for key in pool.map(lambda _: SigningKey.load("ada", create=True), range(12))}
    assert len(made) == 1
    assert [path.name for path in key_path("ada").parent.iterdir()] == ["ada.pem"]


def test_only_the_owner_may_read_a_key():
    SigningKey.load("ada", create=True)
    assert key_path("ada").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", ["user:ada", "../../etc/x", ".hidden", "ä", "a/b", ""])
def test_any_name_has_a_file_of_its_own_in_the_keys_folder(name):
    SigningKey.load(name, create=True)
    folder = key_path("x").parent
    assert key_path(name).parent == folder
    assert key_path(name).exists()
    assert key_path("user:ada") != key_path("user_ada")


def test_a_file_that_is_no_ed25519_key_is_refused_and_kept():
    path = key_path("ada")
    path.parent.mkdir(parents=True, exist_ok=True)
    other = ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for content in (b"junk", b"", other):
        path.write_bytes(content)
        with pytest.raises(Invalid, match="not an Ed25519"):
            SigningKey.load("ada", create=True)
        assert path.read_bytes() == content

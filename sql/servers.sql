-- options of servers and user mappings
CREATE SERVER whisper FOREIGN DATA WRAPPER transcribe
    OPTIONS (url 'http://127.0.0.1:9/v1', model 'tiny', request_interval '500ms',
             max_requests '2', requests_per_minute '90', connect_timeout '3s', request_timeout '2min', timeout_factor '0.5',
             audio_format 'flac', language 'en', prompt 'a talk', temperature '0.2',
             response_format 'json', chunk_seconds '60', max_upload_bytes '10MB',
             max_attempts '3', retry_interval '2s', retry_max_interval '1min',
             link_local 'refuse', insecure_key 'allow', channels 'split', trim_silence 'off',
             min_silence_duration '1500ms', speech_pad_before '0', speech_pad_after '1s',
             silence_threshold '-45');
CREATE USER MAPPING FOR PUBLIC SERVER whisper OPTIONS (api_key 'sk-not-a-key');

-- what is not an option says what is
CREATE SERVER bad FOREIGN DATA WRAPPER transcribe OPTIONS (host 'x');
CREATE SERVER bad FOREIGN DATA WRAPPER transcribe OPTIONS (api_key 'x');
CREATE USER MAPPING FOR CURRENT_USER SERVER whisper OPTIONS (password 'x');
ALTER FOREIGN DATA WRAPPER transcribe OPTIONS (url 'http://x');

-- values
CREATE SERVER bad FOREIGN DATA WRAPPER transcribe OPTIONS (url 'ftp://host/');
CREATE SERVER bad FOREIGN DATA WRAPPER transcribe OPTIONS (url 'http:///v1');
CREATE SERVER bad FOREIGN DATA WRAPPER transcribe OPTIONS (url 'https://me:secret@host/v1');
CREATE SERVER bad FOREIGN DATA WRAPPER transcribe OPTIONS (url 'https://host/v1?key=1');
CREATE SERVER bad FOREIGN DATA WRAPPER transcribe OPTIONS (url E'https://host/v1\nX: y');
CREATE SERVER bad FOREIGN DATA WRAPPER transcribe OPTIONS (request_interval '5 parsecs');
CREATE SERVER bad FOREIGN DATA WRAPPER transcribe OPTIONS (request_timeout '-1');
CREATE SERVER bad FOREIGN DATA WRAPPER transcribe OPTIONS (max_requests 'many');
CREATE SERVER bad FOREIGN DATA WRAPPER transcribe OPTIONS (timeout_factor '-1');
CREATE SERVER bad FOREIGN DATA WRAPPER transcribe OPTIONS (max_attempts '0');
CREATE SERVER bad FOREIGN DATA WRAPPER transcribe OPTIONS (chunk_seconds '4');
CREATE SERVER bad FOREIGN DATA WRAPPER transcribe OPTIONS (audio_format 'mp4');
CREATE SERVER bad FOREIGN DATA WRAPPER transcribe OPTIONS (channels 'left');
CREATE SERVER bad FOREIGN DATA WRAPPER transcribe OPTIONS (trim_silence 'no');
CREATE SERVER bad FOREIGN DATA WRAPPER transcribe OPTIONS (min_silence_duration '100ms');
CREATE SERVER bad FOREIGN DATA WRAPPER transcribe OPTIONS (speech_pad_after '10s');
CREATE SERVER bad FOREIGN DATA WRAPPER transcribe OPTIONS (silence_threshold 'loud');
CREATE SERVER bad FOREIGN DATA WRAPPER transcribe OPTIONS (silence_threshold '-10');
CREATE SERVER bad FOREIGN DATA WRAPPER transcribe OPTIONS (response_format 'verbose');
CREATE SERVER bad FOREIGN DATA WRAPPER transcribe OPTIONS (temperature '2');
CREATE SERVER bad FOREIGN DATA WRAPPER transcribe OPTIONS (model '');
CREATE USER MAPPING FOR CURRENT_USER SERVER whisper OPTIONS (api_key E'a\r\nX-Evil: 1');
CREATE USER MAPPING FOR CURRENT_USER SERVER whisper OPTIONS (api_key_file 'relative');

CREATE SERVER bad FOREIGN DATA WRAPPER transcribe OPTIONS (ca_file 'relative');
CREATE SERVER bad FOREIGN DATA WRAPPER transcribe OPTIONS (on_complete '');

-- profiles, and what they set
CREATE SERVER azure FOREIGN DATA WRAPPER transcribe
    OPTIONS (profile 'azure', url 'https://resource.openai.azure.com', model 'my-whisper',
             api_version '2024-10-21');
CREATE SERVER cpp FOREIGN DATA WRAPPER transcribe
    OPTIONS (profile 'whisper.cpp', path '/asr', translation_path '/asr',
             auth_header 'X-Token', max_prompt_length '500',
             extra_fields '{"beam_size": 5, "vad": true, "prompt2": "a\nb", "tags[]": ["x", 0.50], "max_len": null}');
DROP SERVER azure, cpp;
CREATE SERVER bad FOREIGN DATA WRAPPER transcribe OPTIONS (profile 'watson');
CREATE SERVER bad FOREIGN DATA WRAPPER transcribe OPTIONS (path 'inference');
CREATE SERVER bad FOREIGN DATA WRAPPER transcribe OPTIONS (path '/in?ference');
CREATE SERVER bad FOREIGN DATA WRAPPER transcribe OPTIONS (path '/deployments/{deployment}/x');
CREATE SERVER bad FOREIGN DATA WRAPPER transcribe OPTIONS (path '/deployments/{model}}');
CREATE SERVER bad FOREIGN DATA WRAPPER transcribe
    OPTIONS (url 'https://r.openai.azure.com/openai/deployments/w/audio/transcriptions?api-version=2024-10-21');
CREATE SERVER bad FOREIGN DATA WRAPPER transcribe OPTIONS (api_version '2024&x=y');
CREATE SERVER bad FOREIGN DATA WRAPPER transcribe OPTIONS (auth_header 'Bearer sk-key');
CREATE SERVER bad FOREIGN DATA WRAPPER transcribe OPTIONS (auth_header 'Authorization:Bearer');
CREATE SERVER bad FOREIGN DATA WRAPPER transcribe OPTIONS (auth_header E'X: y\r\nZ');
CREATE SERVER bad FOREIGN DATA WRAPPER transcribe OPTIONS (extra_fields 'beam_size=5');
CREATE SERVER bad FOREIGN DATA WRAPPER transcribe OPTIONS (extra_fields '{"a": 1');
CREATE SERVER bad FOREIGN DATA WRAPPER transcribe OPTIONS (extra_fields '[1]');
CREATE SERVER bad FOREIGN DATA WRAPPER transcribe OPTIONS (extra_fields '"a"');
CREATE SERVER bad FOREIGN DATA WRAPPER transcribe OPTIONS (extra_fields '{"a": {"b": 1}}');
CREATE SERVER bad FOREIGN DATA WRAPPER transcribe OPTIONS (extra_fields '{"a": [[1]]}');
CREATE SERVER bad FOREIGN DATA WRAPPER transcribe OPTIONS (extra_fields '{"file": "x"}');
CREATE SERVER bad FOREIGN DATA WRAPPER transcribe OPTIONS (extra_fields '{"language": "en"}');
CREATE SERVER bad FOREIGN DATA WRAPPER transcribe OPTIONS (extra_fields '{"stream": true}');
CREATE SERVER bad FOREIGN DATA WRAPPER transcribe OPTIONS (extra_fields '{"": 1}');
CREATE SERVER bad FOREIGN DATA WRAPPER transcribe OPTIONS (extra_fields '{"a\r\nb": 1}');
CREATE SERVER bad FOREIGN DATA WRAPPER transcribe
    OPTIONS (extra_fields '{"a": [1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16], "b": 1}');

-- a file with a key, or certificates, is the superuser's to name
CREATE ROLE regress_server_owner;
GRANT USAGE ON FOREIGN DATA WRAPPER transcribe TO regress_server_owner;
SET ROLE regress_server_owner;
CREATE SERVER mine FOREIGN DATA WRAPPER transcribe OPTIONS (url 'http://127.0.0.1:9/v1');
CREATE USER MAPPING FOR CURRENT_USER SERVER mine OPTIONS (api_key_file '/etc/shadow');
CREATE USER MAPPING FOR CURRENT_USER SERVER mine OPTIONS (api_key 'sk-mine');
ALTER SERVER mine OPTIONS (ADD ca_file '/etc/passwd');
ALTER SERVER mine OPTIONS (ADD on_complete 'public.mine');
RESET ROLE;
DROP SERVER mine CASCADE;
REVOKE USAGE ON FOREIGN DATA WRAPPER transcribe FROM regress_server_owner;
DROP ROLE regress_server_owner;

-- which servers there are, and asking one again
SELECT server, role, state, error_code, error, since, retry_at FROM transcribe_servers;
SELECT transcribe_resume_server('whisper');
SELECT transcribe_resume_server('no such');
CREATE ROLE regress_stranger;
SET ROLE regress_stranger;
SELECT count(*) FROM transcribe_servers;
SELECT transcribe_resume_server('whisper');
SELECT transcribe_hold_server('whisper');
RESET ROLE;
DROP ROLE regress_stranger;

-- one that is held, by a function or by hand, is so until it is resumed
SELECT transcribe_hold_server('whisper'), transcribe_hold_server('whisper') AS again;
SELECT server, state, error, retry_at FROM transcribe_servers;
SELECT 'hold=on' = ANY (srvoptions) AS option FROM pg_foreign_server WHERE srvname = 'whisper';
SELECT transcribe_resume_server('whisper');
SELECT server, state FROM transcribe_servers;
SELECT count(*) AS option FROM pg_foreign_server, unnest(srvoptions) o WHERE srvname = 'whisper' AND o LIKE 'hold=%';
ALTER SERVER whisper OPTIONS (ADD hold 'off');
SELECT server, state FROM transcribe_servers;
SELECT transcribe_hold_server('whisper');
SELECT server, state FROM transcribe_servers;
ALTER SERVER whisper OPTIONS (DROP hold);
ALTER SERVER whisper OPTIONS (ADD hold 'perhaps');
CREATE FOREIGN DATA WRAPPER other;
CREATE SERVER other FOREIGN DATA WRAPPER other;
SELECT transcribe_hold_server('other');
DROP FOREIGN DATA WRAPPER other CASCADE;

-- no tables
CREATE FOREIGN TABLE t (a int) SERVER whisper OPTIONS (a 'b');

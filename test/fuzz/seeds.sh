#!/bin/sh
# Make seeds for the fuzzers.
#
#   seeds.sh DIR
#
# makes DIR/fuzz_media with a short recording in every format that the FFmpeg
# here can write and transcribe_media takes, and DIR/fuzz_response with answers
# as servers give them.  What this FFmpeg cannot write is left out.
set -eu

mkdir -p "${1:?usage: seeds.sh DIR}/fuzz_media" "$1/fuzz_response" "$1/fuzz_wire"
dir=$(cd "$1" && pwd)
cd "$dir/fuzz_media"

# Something with pauses in it, so that there are spans, and above noise.
voice="aevalsrc=0.4*sin(2*PI*(200+300*t)*t)*gt(sin(20*t)\,-0.3)+0.002*random(0)"

# One recording: its name, seconds, rate, channels, and FFmpeg's options.
seed()
{
    name=$1 seconds=$2 rate=$3 channels=$4
    shift 4
    nice ffmpeg -nostdin -v quiet -y -f lavfi -i "$voice:s=$rate:d=$seconds" \
        -ac "$channels" "$@" -bitexact -strict -2 "$name" || rm -f "$name"
}

# The same with a picture.
film()
{
    name=$1
    shift
    nice ffmpeg -nostdin -v quiet -y -f lavfi -i "$voice:s=16000:d=0.5" \
        -f lavfi -i testsrc=size=32x32:rate=5:duration=0.5 "$@" \
        -bitexact -strict -2 "$name" || rm -f "$name"
}

# Samples as they are.
for codec in u8 s16le s24le s32le f32le f64le alaw mulaw
do
    seed "wav-$codec.wav" 0.3 8000 1 -c:a "pcm_$codec"
done
for codec in adpcm_ima_wav adpcm_ms adpcm_yamaha g722 g726 g723_1 gsm_ms mp2 \
    libmp3lame ac3 wmav2 nellymoser
do
    seed "wav-$codec.wav" 0.5 8000 1 -c:a "$codec"
done
seed wav-stereo.wav 0.3 44100 2
seed wav-six.wav 0.3 8000 6 -c:a pcm_s16le
seed wav-rf64.wav 0.3 8000 1 -rf64 always
seed w64.w64 0.3 8000 1
seed aiff.aiff 0.3 8000 1
seed aiff-float.aiff 0.3 8000 1 -c:a pcm_f32be
seed au.au 0.3 8000 1 -c:a pcm_mulaw
seed caf.caf 0.3 8000 1
seed caf-alac.caf 0.5 16000 1 -c:a alac
seed voc.voc 0.3 8000 1
seed sox.sox 0.3 8000 1
seed ircam.ircam 0.3 8000 1

# Compressed, in a container of their own.
seed mp3.mp3 0.5 16000 1 -b:a 24k
seed mp3-stereo.mp3 0.5 44100 2 -b:a 64k -id3v2_version 3 -metadata title=seed
seed mp2.mp2 0.5 16000 1 -b:a 32k
seed aac.aac 0.5 16000 1 -b:a 24k
seed latm.latm 0.5 16000 1 -c:a aac -b:a 24k -f latm
seed flac.flac 0.5 16000 1
seed flac-stereo.flac 0.3 44100 2
seed ogg-vorbis.ogg 0.5 16000 1 -c:a libvorbis
seed ogg-opus.ogg 0.5 16000 1 -c:a libopus -b:a 16k
seed ogg-flac.ogg 0.5 16000 1 -c:a flac
seed ogg-speex.ogg 0.5 16000 1 -c:a libspeex
seed ac3.ac3 0.5 32000 2 -b:a 64k
seed eac3.eac3 0.5 32000 2 -b:a 64k
seed dts.dts 0.2 48000 2 -c:a dca -b:a 768k
seed truehd.thd 0.3 48000 2 -f truehd
seed mlp.mlp 0.3 48000 2
seed gsm.gsm 0.5 8000 1 -c:a libgsm
seed g722.g722 0.5 16000 1
seed g723_1.g723_1 0.5 8000 1 -b:a 6300
seed amr.amr 0.5 8000 1 -c:a libopencore_amrnb
seed codec2.c2 0.5 8000 1 -c:a libcodec2
seed sbc.sbc 0.3 16000 1
seed aptx.aptx 0.3 48000 2
seed wavpack.wv 0.3 16000 1
seed tta.tta 0.3 16000 1
seed rm.rm 0.5 32000 2 -c:a ac3 -b:a 64k

# In containers that hold pictures too.
seed m4a.m4a 0.5 16000 1 -c:a aac -b:a 24k
seed m4a-fast.m4a 0.5 16000 1 -c:a aac -b:a 24k -movflags +faststart
seed m4a-fragments.m4a 0.5 16000 1 -c:a aac -b:a 24k \
    -movflags frag_keyframe+empty_moov
seed m4a-alac.m4a 0.3 16000 1 -c:a alac
seed mov-pcm.mov 0.3 16000 1 -c:a pcm_s16be
seed 3gp.3gp 0.5 8000 1 -c:a aac -b:a 16k
seed 3gp-amr.3gp 0.5 8000 1 -c:a libopencore_amrnb
for codec in aac flac libopus libvorbis pcm_s16le ac3 libmp3lame wavpack tta
do
    seed "mka-$codec.mka" 0.5 16000 1 -c:a "$codec"
done
seed webm.webm 0.5 16000 1 -c:a libopus -b:a 16k
seed wma.wma 0.5 16000 1 -c:a wmav2 -b:a 24k
seed nut.nut 0.5 16000 1 -c:a libvorbis
seed wtv.wtv 0.5 16000 1 -c:a mp2
film mp4.mp4 -c:v mpeg4 -c:a aac -b:a 24k
film mov.mov -c:v mpeg4 -c:a aac -b:a 24k
film avi.avi -c:v mpeg4 -c:a libmp3lame -b:a 24k
film flv.flv -c:v flv -ar 22050 -c:a libmp3lame -b:a 32k
film mpegts.ts -c:v mpeg2video -c:a mp2 -b:a 32k
film mpeg.mpg -c:v mpeg2video -ar 32000 -c:a mp2 -b:a 32k
film mkv.mkv -c:v mpeg4 -c:a libopus -b:a 16k
film asf.asf -c:v mpeg4 -c:a wmav2 -b:a 24k
film mxf.mxf -c:v mpeg2video -r 25 -ar 48000 -c:a pcm_s16le
film late.mkv -c:v mpeg4 -af asetpts=PTS+2/TB -c:a libopus -b:a 16k

# Rate and channels change midway, where the format only puts frames in a row.
seed one.mp3 0.3 16000 1 -b:a 24k
seed two.mp3 0.3 48000 2 -b:a 64k
cat one.mp3 two.mp3 one.mp3 > changing.mp3
seed one.aac 0.3 16000 1 -b:a 24k
seed two.aac 0.3 48000 2 -b:a 64k
cat one.aac two.aac > changing.aac
seed one.ogg 0.3 16000 1 -c:a libvorbis
seed two.ogg 0.3 44100 2 -c:a libvorbis
cat one.ogg two.ogg > changing.ogg
rm one.* two.*

# Cut short, at the front and at the end.
for name in *
do
    size=$(wc -c < "$name")
    head -c $((size * 2 / 3)) "$name" > "cut-$name"
    case $name in
        *.mp3 | *.aac | *.ogg | *.ts) tail -c $((size / 2)) "$name" > "tail-$name" ;;
    esac
done

cd ../fuzz_response
printf '%s' 'j{"text":"Hello there.","language":"en","duration":2.5,"segments":[{"id":0,"start":0.0,"end":1.2,"text":" Hello","avg_logprob":-0.2,"compression_ratio":1.1,"no_speech_prob":0.01,"words":[{"word":"Hello","start":0.1,"end":0.9}]}],"words":[{"word":"Hello","start":0.1,"end":0.9}]}' > verbose
printf '%s' 'j{"text":"Hello \u00fcml\u00e4ut \ud83d\ude00"}' > json
printf '%s' 'j{"error":{"message":"no such model","type":"invalid_request_error","code":null}}' > error
printf '%s' 'j{"detail":[{"loc":["body","file"],"msg":"field required"}]}' > detail
printf '%s' 'j{"text":"a","segments":[{"speaker":"S1","start":"1","end":null,"text":"b"}]}' > speaker
printf '%s' 'j{"text":"a b","segments":[{"text":" ab c","words":[{"word":" a","probability":0.5},{"word":"b"},{"word":" c"}]}]}' > tokens
printf '%s' 'j{"text":"a","languages":[{"code":"de"}],"usage":{"type":"tokens","total_tokens":3,"input_token_details":{"audio_tokens":2}}}' > usage
printf '%s' 'dplain words, as of response_format=text' > text
printf '%s' 'j<html><body>502 Bad Gateway</body></html>' > html

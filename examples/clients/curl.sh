#!/bin/sh
# JSON over HTTP with curl: sh curl.sh http://HOST:PORT ENROLL.png STRANGER.png
# Set ONEGLANCE_TOKEN to an API key where the server has a policy.
set -eu
server=$1

# call SERVICE/METHOD: the request comes from stdin, since a picture is too long for an argument.
call() {
  curl -sS -H 'Content-Type: application/json' ${ONEGLANCE_TOKEN:+-H "Authorization: Bearer $ONEGLANCE_TOKEN"} \
    --data-binary @- "$server/oneglance.v1.$1"
  echo
}
image() { base64 <"$1" | tr -d '\n'; }

echo '{"galleryId": "curl"}' | call GalleryService/CreateGallery
echo "{\"galleryId\": \"curl\", \"subjectId\": \"ada\", \"examples\": [{\"image\": \"$(image "$2")\"}]}" |
  call SubjectService/Enroll
for probe in "$2" "$3"; do
  echo "{\"galleryId\": \"curl\", \"probes\": [{\"image\": \"$(image "$probe")\"}]}" | call IdentificationService/Identify
done
# An error: its details say which field is wrong.
echo '{"galleryId": "curl", "probes": [{"image": "AAAA"}]}' | call IdentificationService/Identify

// oneglance over HTTP, for Node 18 or later and for browsers: nothing to install, no generated code.

// What a call was refused with. fields: paths in the request, such as probes[0].image.
export class OneglanceError extends Error {
  constructor({ code, message, details = [] }) {
    super(message);
    const told = details.find((detail) => detail.type === "oneglance.v1.Error")?.debug ?? {};
    this.code = code;
    this.reason = told.reason ?? "";
    this.fields = (told.fieldViolations ?? []).map(({ field }) => field);
  }
}

// call(method, request) for a server; token: an API key or a JWT, where the server has a policy.
export function connect(server, token) {
  const headers = { "Content-Type": "application/json", ...(token && { Authorization: `Bearer ${token}` }) };
  return async (method, request) => {
    const answer = await fetch(`${server}/oneglance.v1.${method}`, {
      method: "POST",
      headers,
      body: JSON.stringify(request),
      signal: AbortSignal.timeout(30_000),
    });
    const body = await answer.json();
    if (!answer.ok) throw new OneglanceError(body);
    return body;
  };
}

// Create a gallery, enroll one, identify it and a stranger, and make a mistake; images are base64.
export async function tour(call, galleryId, enrolled, stranger) {
  const identify = async (image) => {
    const { results } = await call("IdentificationService/Identify", { galleryId, probes: [{ image }] });
    return results[0].subjectId || "unknown";
  };
  await call("GalleryService/CreateGallery", { galleryId });
  await call("SubjectService/Enroll", { galleryId, subjectId: "ada", examples: [{ image: enrolled }] });
  const lines = [await identify(enrolled), await identify(stranger)];
  try {
    await identify("AAAA");
  } catch (error) {
    lines.push(`${error.code} ${error.reason} ${error.fields}`);
  }
  return lines;
}
